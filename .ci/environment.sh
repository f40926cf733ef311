# The working tree in a new folder and a fresh environment. `run` and `nightly` source this file:
# afterwards the copy is the working folder, the environment is active, and `run` runs a command.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree

run() {
    printf '\n== %s (after %d s)\n' "$*" "$SECONDS"
    "$@"
}

# What git tracks, and new files that it does not ignore; not results, caches, environments.
mkdir "$tree"
cd "$root"
git ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -r -d '' file; do
        if [[ -e $file ]]; then printf '%s\0' "$file"; fi
    done |
    tar --null -T - -cf - | tar -xf - -C "$tree"

cd "$tree"
run "${PYTHON:-python3}" -m venv "$scratch/venv"
# shellcheck source=/dev/null
source "$scratch/venv/bin/activate"
# The extra `dev` holds `test`, the environment of the README's test command. Python compiles what is
# imported when it is; pip would compile all of it first.
run pip install --quiet --disable-pip-version-check --no-compile -e ".[dev]"

# The report's tests need Chromium; without it they are skipped and say so.
if ! command -v chromedriver >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    run apt-get install -y -qq chromium chromium-driver ||
        { run apt-get update -qq && run apt-get install -y -qq chromium chromium-driver; } ||
        printf 'Chromium could not be installed: the tests in the browser are skipped\n'
fi
