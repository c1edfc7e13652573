/* A trained VITS / Piper voice, streamed. Written by cbindgen from bindings/c/src/abi.rs; `BLESS=1 cargo test -p vitstream-c`
 * writes it anew. Pointers are NULL where that is allowed, or point to what is said; handles are those that this library
 * gave and that were not freed. */

#ifndef VITSTREAM_H
#define VITSTREAM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// The version of this interface. What is added leaves it as it is; a break raises it. `vitstream_abi_version` tells that of
// the library that is loaded.
#define VITSTREAM_ABI_VERSION 1

// All is well.
#define VITSTREAM_OK 0

// There are no more chunks.
#define VITSTREAM_DONE 1

// A file or folder could not be read or written.
#define VITSTREAM_ERR_IO -1

// The input is damaged, or is no voice.
#define VITSTREAM_ERR_INPUT -2

// The input is a voice, another network, or a text that vitstream cannot handle.
#define VITSTREAM_ERR_UNSUPPORTED -3

// An argument makes no sense, or not for this voice.
#define VITSTREAM_ERR_REQUEST -4

// The output cannot be put where it was asked for.
#define VITSTREAM_ERR_OUTPUT -5

// Computing failed.
#define VITSTREAM_ERR_RUNTIME -6

// The stream was cancelled.
#define VITSTREAM_ERR_INTERRUPTED -7

// A defect of vitstream.
#define VITSTREAM_ERR_INTERNAL -8

// Nothing says how words sound: espeak-ng is not there, or did not answer.
#define VITSTREAM_ERR_PHONEMIZER -9

// Speech that is on its way. One thread at a time asks it for chunks; any may cancel it.
typedef struct vitstream_stream vitstream_stream;

// A voice. Any number of threads may use one at once.
typedef struct vitstream_voice vitstream_voice;

// How a voice is opened. `vitstream_open_options_init` fills it; texts are UTF-8 and may be NULL.
typedef struct vitstream_open_options {
  // Bytes of this structure as the caller knows it, so that it can grow.
  size_t size;
  // Threads, 1 to 256. They change no bit of the samples.
  uint32_t threads;
  // Hertz, for a voice whose files do not say it; 0 otherwise.
  uint32_t sample_rate;
  // The path of the voice's JSON, where it is not beside the file under the usual name.
  const char *config;
  // The library of espeak-ng, `LIBRARY` or `LIBRARY:DATA`; NULL for what the environment variable VITSTREAM_ESPEAK names,
  // else the system's, else the program espeak-ng.
  const char *espeak;
  // A command that says how words sound instead.
  const char *phonemizer;
} vitstream_open_options;

// How a text is spoken. `vitstream_speak_options_init` fills it with what the voice's JSON says.
typedef struct vitstream_speak_options {
  // Bytes of this structure as the caller knows it, so that it can grow.
  size_t size;
  // The speaker's number.
  int64_t speaker;
  // How slowly, 0.05 to 20.
  float length_scale;
  // How much the voice varies, 0 to 5.
  float noise_scale;
  // How much the durations vary, 0 to 2.
  float noise_w;
  // Whether `seed` makes the noise the same every time.
  bool has_seed;
  // The seed of each sentence.
  uint64_t seed;
} vitstream_speak_options;

// A piece of a stream.
typedef struct vitstream_chunk {
  // Samples, mono, about -1 to 1. They are the stream's until it is asked for the next chunk or freed.
  const float *samples;
  // How many.
  size_t num_samples;
  // The sentence that they belong to, from 0.
  size_t sentence;
  // Samples of the sentence before this chunk.
  size_t start;
  // Seconds from the beginning of the sentence's work to this chunk.
  double ready;
  // Whether the sentence ends with it.
  bool last;
} vitstream_chunk;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface of this library: programs compare it with VITSTREAM_ABI_VERSION.
uint32_t vitstream_abi_version(void);

// The version of this library.
const char *vitstream_version(void);

// The kind of the last error of the calling thread, VITSTREAM_OK if there was none.
int vitstream_last_error_kind(void);

// What the last error of the calling thread says, in UTF-8; empty if there was none. It is there until the thread's next error.
const char *vitstream_last_error_message(void);

// Fills the options with defaults.
void vitstream_open_options_init(struct vitstream_open_options *options);

// Opens the voice at `path`: an exported folder, a checkpoint or a finished voice. NULL, and an error, when it cannot be read.
// `options` may be NULL.
struct vitstream_voice *vitstream_voice_open(const char *path,
                                             const struct vitstream_open_options *options);

// Opens the voice that a file holds, given its `contents`, which are copied, and the text of its JSON, which may be NULL.
struct vitstream_voice *vitstream_voice_open_bytes(const uint8_t *contents,
                                                   size_t length,
                                                   const char *json,
                                                   const struct vitstream_open_options *options);

// Frees a voice; NULL is nothing. Its streams go on.
void vitstream_voice_free(struct vitstream_voice *voice);

// Hertz; 0 for NULL.
uint32_t vitstream_voice_sample_rate(const struct vitstream_voice *voice);

// How many speakers there are; 0 for NULL.
size_t vitstream_voice_speakers(const struct vitstream_voice *voice);

// Fills the options with what the voice's JSON says; VITSTREAM_OK, or the kind of an error.
int vitstream_speak_options_init(struct vitstream_speak_options *options,
                                 const struct vitstream_voice *voice);

// Speaks a text of UTF-8. NULL, and an error, when it cannot be spoken; `options` may be NULL.
struct vitstream_stream *vitstream_speak_text(const struct vitstream_voice *voice,
                                              const char *text,
                                              const struct vitstream_speak_options *options);

// Speaks phonemes: IPA, or the characters of a voice that reads characters.
struct vitstream_stream *vitstream_speak_phonemes(const struct vitstream_voice *voice,
                                                  const char *phonemes,
                                                  const struct vitstream_speak_options *options);

// Speaks phoneme ids, at most 5000.
struct vitstream_stream *vitstream_speak_ids(const struct vitstream_voice *voice,
                                             const int64_t *ids,
                                             size_t count,
                                             const struct vitstream_speak_options *options);

// The next chunk: VITSTREAM_OK, VITSTREAM_DONE behind the last, or the kind of an error, after which there are no more.
int vitstream_stream_next(struct vitstream_stream *stream,
                          struct vitstream_chunk *chunk);

// Cancels a stream, from any thread; NULL is nothing. Whoever waits for a chunk gets VITSTREAM_ERR_INTERRUPTED.
void vitstream_stream_cancel(const struct vitstream_stream *stream);

// Frees a stream; NULL is nothing. No thread may be within another of its functions.
void vitstream_stream_free(struct vitstream_stream *stream);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VITSTREAM_H */
