// A program for libpiper: piper MODEL CONFIG TEXT. Prints each sentence's phonemes with their samples.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "piper.h"

int main(int count, char **arguments) {
    if (count < 4) {
        std::fprintf(stderr, "usage: piper MODEL CONFIG TEXT\n");
        return 2;
    }
    std::unique_ptr<piper_synthesizer, decltype(&piper_free)> synth(
        piper_create(arguments[1], arguments[2], nullptr), piper_free);
    if (!synth) {
        std::fprintf(stderr, "the voice cannot be opened\n");
        return 1;
    }
    piper_synthesize_options options = piper_default_synthesize_options(synth.get());
    options.noise_scale = options.noise_w_scale = 0;
    if (piper_synthesize_start(synth.get(), arguments[3], &options) != PIPER_OK) return 1;
    piper_audio_chunk chunk;
    int next;
    bool last = false;
    while ((next = piper_synthesize_next(synth.get(), &chunk)) == PIPER_OK) {
        size_t id = 0, samples = 0;
        for (size_t at = 0; at <= chunk.num_phonemes; at++) {
            if (at == chunk.num_phonemes || chunk.phonemes[at] == 0) {
                std::printf("%lu:%zu ", static_cast<unsigned long>(chunk.phonemes[at - 1]), samples);
                samples = 0;
            } else if (id < chunk.num_alignments) {
                samples += static_cast<size_t>(chunk.alignments[id++]);
            }
        }
        std::printf("= %zu of %zu ids at %d\n", chunk.num_samples, chunk.num_phoneme_ids, chunk.sample_rate);
        if (id != chunk.num_phoneme_ids || last) return 1;
        last = chunk.is_last;
    }
    return next == PIPER_DONE && last ? 0 : 1;
}
