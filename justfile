# The steps of `.ci/run` by name, for those who have `just`; `.ci/run` itself needs none of this.

# The names and what they do
default:
    @just --list --unsorted

# Everything that must hold before a change is merged
ci:
    .ci/run

# Check formatting
format:
    .ci/run format

# Build and test the Python package
python:
    .ci/run python

# Build and test the C library
c:
    .ci/run c

# All tests
test:
    .ci/run test

# Clippy; warnings are errors
lint:
    .ci/run lint

# Build the documentation; warnings are errors
doc:
    .ci/run doc

# Build every crate without default features
features:
    .ci/run features

# Compile the fuzz targets
fuzz:
    .ci/run fuzz

# Check licences, banned crates and sources of the dependencies
deny:
    .ci/run deny

# Look at what would be published
package:
    .ci/run package

# Run the engine's golden tests in WebAssembly
wasm:
    .ci/run wasm

# Kill exports, fill disks, feed hostile files
faults:
    .ci/run faults

# Hold the exported graphs against PyTorch's values in ONNX Runtime and in clients; minutes
conformance:
    .ci/run conformance

# Speak through the server with clients from PyPI
serve:
    .ci/run serve

# Several servers behind HAProxy, the manifests, recipes for many utterances
fleet:
    .ci/run fleet

# What a change that is about to be committed needs at least
quick: format lint
    cargo test --workspace --lib --bins

# Compare the public interfaces with those of a commit (needs cargo-semver-checks)
semver baseline="main":
    scripts/semver.sh {{baseline}}

# What is played is what was computed, without a gap
playback:
    .ci/run playback

# speech-dispatcher of Debian speaks with the module
speechd:
    .ci/run speechd

# Text against two copies of espeak-ng
text:
    .ci/run text
