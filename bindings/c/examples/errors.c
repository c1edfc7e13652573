/* What goes wrong, and that nothing is left behind: errors VOICE */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "piper.h"
#include "vitstream.h"

/* As `assert`, also where NDEBUG is set. */
#define expect(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: expected %s; %s\n", __LINE__, #condition, vitstream_last_error_message()); \
            return 1; \
        } \
    } while (0)

static void *cancel(void *stream) {
    vitstream_stream_cancel(stream);
    return NULL;
}

int main(int count, char **arguments) {
    expect(count == 2);
    expect(vitstream_last_error_kind() == VITSTREAM_OK && *vitstream_last_error_message() == '\0');
    expect(!vitstream_voice_open("absent.onnx", NULL));
    expect(vitstream_last_error_kind() == VITSTREAM_ERR_IO && strstr(vitstream_last_error_message(), "absent.onnx"));
    expect(!vitstream_voice_open(NULL, NULL) && vitstream_last_error_kind() == VITSTREAM_ERR_REQUEST);
    expect(!vitstream_voice_open("\xff", NULL) && vitstream_last_error_kind() == VITSTREAM_ERR_REQUEST);
    const unsigned char bytes[] = "no voice";
    expect(!vitstream_voice_open_bytes(bytes, sizeof bytes, NULL, NULL) && vitstream_last_error_kind() < 0);

    vitstream_open_options open;
    memset(&open, 0, sizeof open);
    expect(!vitstream_voice_open(arguments[1], &open) && vitstream_last_error_kind() == VITSTREAM_ERR_REQUEST);
    vitstream_open_options_init(&open);
    open.threads = 2;
    vitstream_voice *voice = vitstream_voice_open(arguments[1], &open);
    expect(voice && vitstream_voice_sample_rate(voice) == 22050 && vitstream_voice_speakers(voice) == 1);
    expect(vitstream_voice_sample_rate(NULL) == 0);

    vitstream_speak_options how;
    expect(vitstream_speak_options_init(&how, NULL) == VITSTREAM_ERR_REQUEST);
    expect(vitstream_speak_options_init(&how, voice) == VITSTREAM_OK);
    how.length_scale = 0;
    expect(!vitstream_speak_text(voice, "hello", &how) && vitstream_last_error_kind() == VITSTREAM_ERR_REQUEST);
    how.length_scale = 1;
    how.speaker = 7;
    expect(!vitstream_speak_text(voice, "hello", &how) && vitstream_last_error_kind() == VITSTREAM_ERR_REQUEST);
    expect(!vitstream_speak_text(voice, NULL, NULL) && !vitstream_speak_phonemes(voice, "\xce\xa9", NULL));
    const int64_t far[] = {1, 1000000};
    expect(!vitstream_speak_ids(voice, far, 2, NULL) && !vitstream_speak_ids(voice, NULL, 0, NULL));
    expect(!vitstream_speak_ids(voice, far, 0, NULL));

    vitstream_chunk chunk;
    vitstream_stream *stream = vitstream_speak_text(voice, " ", NULL);
    expect(stream && vitstream_stream_next(stream, &chunk) == VITSTREAM_ERR_REQUEST);
    expect(vitstream_stream_next(stream, &chunk) == VITSTREAM_DONE);
    vitstream_stream_free(stream);

    stream = vitstream_speak_text(voice, "hello there! how are you? hello there!", NULL);
    expect(stream && vitstream_stream_next(stream, &chunk) == VITSTREAM_OK && chunk.num_samples > 0);
    expect(vitstream_stream_next(stream, NULL) == VITSTREAM_ERR_REQUEST);
    pthread_t thread;
    expect(pthread_create(&thread, NULL, cancel, stream) == 0 && pthread_join(thread, NULL) == 0);
    int next;
    while ((next = vitstream_stream_next(stream, &chunk)) == VITSTREAM_OK) {}
    expect(next == VITSTREAM_ERR_INTERRUPTED && vitstream_stream_next(stream, &chunk) == VITSTREAM_DONE);
    /* A stream outlives its voice. */
    vitstream_stream *other = vitstream_speak_phonemes(voice, "hello", NULL);
    vitstream_voice_free(voice);
    expect(other && vitstream_stream_next(other, &chunk) == VITSTREAM_OK && chunk.start == 0);
    vitstream_stream_free(stream);
    vitstream_stream_free(other);
    vitstream_stream_free(NULL);
    vitstream_stream_cancel(NULL);
    vitstream_voice_free(NULL);

    piper_create_options options;
    piper_init_create_options(&options);
    expect(!piper_create_with_options(NULL) && !piper_create_with_options(&options));
    options.model_path = arguments[1];
    piper_synthesizer *synth = piper_create_with_options(&options);
    piper_audio_chunk audio;
    expect(synth && piper_synthesize_next(synth, &audio) == PIPER_DONE && audio.is_last);
    expect(piper_synthesize_start(synth, "", NULL) == PIPER_OK && piper_synthesize_next(synth, &audio) == PIPER_DONE);
    expect(piper_synthesize_start(synth, "a! b!", NULL) == PIPER_OK);
    expect(piper_synthesize_next(synth, &audio) == PIPER_OK && audio.num_samples > 0);
    expect(piper_synthesize_start(NULL, "a", NULL) == PIPER_ERR_GENERIC);
    expect(piper_synthesize_start(synth, "\xff", NULL) == PIPER_ERR_GENERIC);
    piper_free(synth);
    piper_free(NULL);
    return 0;
}
