/* The functions of libpiper, implemented by vitstream: programs for libpiper are compiled with this header, or with libpiper's,
 * and linked with libvitstream_c instead. Names, types and their order are libpiper's; vitstream computes the audio, one chunk
 * per sentence.
 *
 * Differences: espeak_data_path, g2pw_model_dir and data_dir have no effect, because the environment variable VITSTREAM_ESPEAK
 * selects the library of espeak-ng and its data; and `alignments` is available for every voice. The reason for an error is
 * returned by vitstream_last_error_message() of vitstream.h. */
#ifndef PIPER_H_
#define PIPER_H_

#include <stdbool.h>
#include <stddef.h>
#ifndef __cplusplus
#include <uchar.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define PIPER_OK 0
#define PIPER_DONE 1
#define PIPER_ERR_GENERIC (-1)

/* A voice, for one thread at a time. */
typedef struct piper_synthesizer piper_synthesizer;

/* A sentence. Its data is owned by the synthesizer and valid until the next call. */
typedef struct piper_audio_chunk {
    const float *samples; /* mono, as computed by the network */
    size_t num_samples;
    int sample_rate; /* hertz */
    bool is_last;
    const char32_t *phonemes; /* each repeated once per id; a 0 between one phoneme and the next */
    size_t num_phonemes;
    const int *phoneme_ids;
    size_t num_phoneme_ids;
    const int *alignments; /* samples of each id */
    size_t num_alignments;
} piper_audio_chunk;

typedef struct piper_synthesize_options {
    int speaker_id;
    float length_scale;  /* slowness of speech */
    float noise_scale;   /* variation of the voice */
    float noise_w_scale; /* variation of the durations */
} piper_synthesize_options;

typedef struct piper_create_options {
    size_t struct_size; /* sizeof(piper_create_options) */
    const char *model_path;
    const char *config_path; /* NULL for the JSON next to the model */
    const char *espeak_data_path;
    const char *g2pw_model_dir;
    const char *data_dir;
} piper_create_options;

static inline void piper_init_create_options(piper_create_options *options) {
    if (options) {
        piper_create_options empty = {sizeof(piper_create_options), NULL, NULL, NULL, NULL, NULL};
        *options = empty;
    }
}

/* Returns NULL if the voice cannot be opened. */
piper_synthesizer *piper_create(const char *model_path, const char *config_path, const char *espeak_data_path);
piper_synthesizer *piper_create_with_options(const piper_create_options *options);
void piper_free(piper_synthesizer *synth);

/* Returns the defaults of the voice's JSON. */
piper_synthesize_options piper_default_synthesize_options(piper_synthesizer *synth);

/* Starts a text in UTF-8; NULL options select the voice's defaults. Returns PIPER_OK or an error. */
int piper_synthesize_start(piper_synthesizer *synth, const char *text, const piper_synthesize_options *options);

/* Returns PIPER_OK with a chunk, PIPER_DONE without one, or an error, after which no chunks follow. */
int piper_synthesize_next(piper_synthesizer *synth, piper_audio_chunk *chunk);

const char *piper_version(void);

#ifdef __cplusplus
}
#endif

#endif
