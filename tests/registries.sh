# Libraries of others, pinned, for the tests that need them: installed once into target/, and never missed in silence.
# For scripts to source; it does nothing by itself.

# What an installation returns: it is there, it cannot be had here, it is wrong.
readonly THERE=0 ABSENT=3 WRONG=1

# not_run SUITE WHAT WHY REMEDY: says what was not tested and why, so that nobody takes silence for success. The details
# are read from stdin.
not_run() {
    cat >&2 <<NOTICE

************************************************************************
*  $1 NOT RUN: $2: $3.
*
*  NOTHING of it was tested.
*
$(tail -n 5 | sed 's/^/*    /')
*
*  $4
************************************************************************

NOTICE
}

# installed FILE WANTED: whether what is installed is what this is about; FILE holds what was wanted then.
installed() {
    [[ -f $1 && $(<"$1") == "$2" ]]
}

# python_libraries SUITE WHAT VENV REQUIREMENTS PROBE [OPTION…]: installs the pinned libraries into VENV unless they are
# there already. PROBE is a package by which a registry that answers is known; OPTIONs are pip's.
python_libraries() {
    local suite=$1 what=$2 venv=$3 requirements=$4 probe=$5 wanted log
    shift 5
    local again="run tests/$suite/run again"
    if ! command -v python3 >/dev/null 2>&1; then
        echo "there is no python3" | not_run "$suite" "$what" "Python is not installed" "Install Python 3.11 or newer, and $again."
        return $ABSENT
    fi
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "$suite: Python 3.11 or newer is needed, found $(python3 --version)" >&2
        return $WRONG
    fi
    wanted=$(python3 --version; cat "$requirements")
    if installed "$venv/installed" "$wanted"; then
        return $THERE
    fi
    rm -rf "$venv"
    python3 -m venv "$venv" || return $WRONG
    log=$venv/install.log
    if "$venv/bin/pip" install --quiet --retries 1 --disable-pip-version-check "$@" -r "$requirements" >"$log" 2>&1; then
        printf '%s\n' "$wanted" >"$venv/installed"
        return $THERE
    fi
    # A registry that answers, but not with what is pinned, is a fault of the pins.
    if "$venv/bin/pip" index versions --retries 1 --disable-pip-version-check "$probe" >/dev/null 2>&1; then
        cat "$log" >&2
        echo "$suite: the Python registry answers, but the pinned libraries cannot be installed" >&2
        return $WRONG
    fi
    not_run "$suite" "$what" "the Python registry cannot be reached" "${again^} where pip can reach its registry." <"$log"
    rm -rf "$venv"
    return $ABSENT
}

# node_libraries SUITE WHAT FOLDER PINS PROBE: the same for Node; PINS has package.json and package-lock.json.
node_libraries() {
    local suite=$1 what=$2 folder=$3 pins=$4 probe=$5 wanted log
    local again="run tests/$suite/run again"
    if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
        echo "there is no node, or no npm" | not_run "$suite" "$what" "Node is not installed" "Install Node 20.18.1 or newer with npm, and $again."
        return $ABSENT
    fi
    if ! node -e 'const [a, b, c] = process.versions.node.split(".").map(Number); process.exit(a * 1e6 + b * 1e3 + c < 20018001 ? 1 : 0)'; then
        node --version | not_run "$suite" "$what" "Node is too old" "Install Node 20.18.1 or newer with npm, and $again."
        return $ABSENT
    fi
    wanted=$(node --version; cat "$pins/package-lock.json")
    if installed "$folder/installed" "$wanted"; then
        return $THERE
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$pins/package.json" "$pins/package-lock.json" "$folder"
    log=$folder/install.log
    if ! (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --fetch-retries=1) >"$log" 2>&1; then
        if (cd "$folder" && npm view --fetch-retries=1 --prefer-online "$probe" version) >/dev/null 2>&1; then
            cat "$log" >&2
            echo "$suite: the Node registry answers, but the pinned libraries cannot be installed" >&2
            return $WRONG
        fi
        not_run "$suite" "$what" "the Node registry cannot be reached" "${again^} where npm can reach its registry." <"$log"
        rm -rf "$folder"
        return $ABSENT
    fi
    printf '%s\n' "$wanted" >"$folder/installed"
}
