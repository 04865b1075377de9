# shellcheck shell=bash
# Sourced by the scripts beside it: one virtual environment in the clone, kept in step with pyproject.toml.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

# fail MESSAGE [EXIT STATUS]: says one sentence and ends the script.
fail() {
    echo "$1" >&2
    exit "${2:-1}"
}

# find_python: prints the first Python that will do, the user's own choice before any other.
find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "maskrobust needs Python 3.11 or newer with its venv module, and neither python3 nor python3.11 to python3.13 is that; install one (on Debian and Ubuntu: apt install python3-venv) and run this again."
}

# link_packages: shows type checkers and editors the four folders as what is imported, maskrobust.augment and so on.
link_packages() {
    local folder
    for folder in augment configs lm_modules train; do
        ln -sfn "../$folder" "$root/maskrobust/$folder"
    done
}

# setup_environment EXTRA: puts the project into .venv, with the extra dependencies "dev", with "docs", which dev holds, or
# with none (""). Does nothing when the last installation that succeeded was for this pyproject.toml, in this place, and held
# at least as much.
setup_environment() {
    local python state stamp=$venv/.maskrobust-installed
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        python=$(find_python)
        echo "Creating .venv with $python." >&2
        "$python" -m venv "$venv" >&2 || fail "The virtual environment .venv could not be made; remove it and run this again."
    fi
    link_packages
    state="$(cksum <"$root/pyproject.toml") $root"
    case $(cat "$stamp" 2>/dev/null) in
        "$state $1"* | "$state dev") return ;; # with none, any
    esac
    rm -f "$stamp"
    echo "Installing maskrobust and what it needs into .venv; the first time, this takes some minutes." >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root${1:+[$1]}" >&2 ||
        fail "The installation into .venv failed, for the reason that pip gives above; run this again once that is corrected."
    echo "Installed in $((SECONDS / 60)) min $((SECONDS % 60)) s." >&2
    echo "$state $1" >"$stamp"
}
