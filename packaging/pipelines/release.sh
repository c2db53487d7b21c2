#!/bin/sh
# A release of a compute host's software, step by step: from artifacts to an authority that accepts it.
#
#   release.sh measure  RELEASE.toml STACK.json [PREVIOUS]   compute the stack; say what changed since PREVIOUS
#   release.sh endorse  STACK.json KEY ENVELOPE              sign it
#   release.sh review   RELEASE.toml ENVELOPE KEY            the second endorser: compute it again, compare, sign
#   release.sh submit   ENVELOPE                             hand it to the authority, as a draft
#   release.sh dry-run  ENVELOPE                             what would it do to the fleet?
#   release.sh activate ENVELOPE [RETIRE_OLD_IN]             put it in force; the old one ends after 2h, or what is said
#
# Each step prints one JSON document on stdout, and ends with 0 (go on), 1 (your mistake), 2 (try again later) or
# 3 (refused: stop, and look). The steps submit, dry-run and activate are done by the authority's machine, which runs
# authority-gate: WATCHWORD_GATE is the command that reaches it, for example "ssh -T release@authority.example".
set -eu

say() { echo "release.sh: $*" >&2; }
usage() { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 1; }
is_error() { [ "$(head -c 9 "$1")" = '{"error":' ]; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 2' INT TERM HUP

measure() {
  watchword stack measure "$1" -o "$2" --json
  [ $# -lt 3 ] && return 0
  status=0
  watchword stack diff "$3" "$2" --json >"$scratch/diff" || status=$?
  case $status in
    0) say "$3 is this release already: there is nothing to do"; return 1 ;;
    3) is_error "$scratch/diff" && return 3 ;;
    *) return "$status" ;;
  esac
  watchword stack diff "$3" "$2" >&2 || true
}

# The second endorser trusts nobody's figures: the same artifacts must make the same bytes.
review() {
  watchword stack measure "$1" -o "$scratch/again.json" --json >"$scratch/measured"
  watchword stack diff "$2" "$scratch/again.json" --json >"$scratch/diff" || true
  if ! grep -q '"same_bytes": true' "$scratch/diff"; then
    say "what is endorsed is not what these artifacts make; the difference:"
    watchword stack diff "$2" "$scratch/again.json" >&2 || true
    return 3
  fi
  watchword stack endorse "$2" --key "$3" -o "$2" --json
}

digest() {
  watchword stack endorsements "$1" --json >"$scratch/about"
  sed -n 's/.*"digest": "\([0-9a-f]\{64\}\)".*/\1/p' "$scratch/about"
}

gate() {
  # shellcheck disable=SC2086 # a command with its arguments
  ${WATCHWORD_GATE:?is not set: the command that reaches authority-gate} "$@"
}

submit() {
  status=0
  gate submit <"$1" >"$scratch/answer" || status=$?
  # A pipeline that runs again is no mistake: the release is there.
  if [ "$status" -eq 1 ] && grep -q '"code": "stack-known"' "$scratch/answer"; then
    say "the authority has this release, with these signatures, already"
    status=0
  fi
  cat "$scratch/answer"
  return "$status"
}

step=${1:-}
[ $# -gt 0 ] && shift
case "$step:$#" in
  measure:2 | measure:3) measure "$@" ;;
  endorse:3) watchword stack endorse "$1" --key "$2" -o "$3" --json ;;
  review:3) review "$@" ;;
  submit:1) submit "$1" ;;
  dry-run:1) name=$(digest "$1"); gate dry-run "$name" ;;
  activate:1 | activate:2) name=$(digest "$1"); gate activate "$name" "${2:-2h}" ;;
  *) usage ;;
esac
