/* Speaks a text into a file of float32 samples, chunk by chunk: speak VOICE TEXT FILE [SEED] */
#include <stdio.h>
#include <stdlib.h>

#include "vitstream.h"

static int failed(const char *what) {
    fprintf(stderr, "%s: %s (%d)\n", what, vitstream_last_error_message(), vitstream_last_error_kind());
    return EXIT_FAILURE;
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: speak VOICE TEXT FILE [SEED]\n");
        return 2;
    }
    if (vitstream_abi_version() != VITSTREAM_ABI_VERSION) {
        fprintf(stderr, "the library is of another version than its header\n");
        return EXIT_FAILURE;
    }
    vitstream_voice *voice = vitstream_voice_open(arguments[1], NULL);
    if (!voice) return failed("open");

    vitstream_speak_options options;
    vitstream_speak_options_init(&options, voice);
    if (count > 4) {
        options.has_seed = true;
        options.seed = strtoull(arguments[4], NULL, 10);
    }
    int status = EXIT_FAILURE;
    FILE *file = fopen(arguments[3], "wb");
    vitstream_stream *stream = file ? vitstream_speak_text(voice, arguments[2], &options) : NULL;
    if (!file) {
        perror(arguments[3]);
    } else if (!stream) {
        failed("speak");
    } else {
        vitstream_chunk chunk;
        int next;
        while ((next = vitstream_stream_next(stream, &chunk)) == VITSTREAM_OK)
            if (fwrite(chunk.samples, sizeof *chunk.samples, chunk.num_samples, file) < chunk.num_samples) break;
        if (next == VITSTREAM_DONE)
            status = EXIT_SUCCESS;
        else if (next == VITSTREAM_OK)
            perror(arguments[3]);
        else
            failed("speak");
    }
    vitstream_stream_free(stream);
    vitstream_voice_free(voice);
    if (file && fclose(file) != 0) status = EXIT_FAILURE;
    return status;
}
