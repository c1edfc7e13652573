#!/usr/bin/env bash
# A manifest over several machines with GNU parallel: deploy/batch/parallel.sh VOICE MANIFEST OUT SHARDS [HOSTS]
#
# VOICE, MANIFEST and OUT have to be there under the same names on all of HOSTS (as parallel's --sshlogin takes them; this machine by
# default). Run again after an interruption, it goes on with the shards that are not done.
set -euo pipefail
voice=$1 manifest=$2 out=$3 shards=$4 hosts=${5:-:}
seq "$shards" | parallel --sshlogin "$hosts" --jobs 1 --joblog "$out.joblog" --resume-failed --retries 3 \
    vitstream batch "$voice" "$manifest" "$out" --shard {}/"$shards"
