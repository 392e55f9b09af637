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

# cargo_program SUITE WHAT FOLDER PROJECT PROBE: builds the pinned project into FOLDER, as cargo builds it, with its dependencies.
cargo_program() {
    local suite=$1 what=$2 folder=$3 project=$4 probe=$5 needed found log
    local again="run tests/$suite/run again"
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$project/Cargo.toml")
    found=$(cargo --version | cut -d ' ' -f 2)
    if ! at_least "$needed" "$found"; then
        echo "cargo $found" | not_run "$suite" "$what" "Cargo is too old" "Install Rust $needed or newer, and $again."
        return $ABSENT
    fi
    mkdir -p "$folder"
    log=$folder.log
    if (cd "$project" && CARGO_TARGET_DIR=$folder cargo build --quiet --locked) >"$log" 2>&1; then
        return $THERE
    fi
    # Elsewhere than in the project, whose lock would answer for the registry.
    if (cd "$folder" && CARGO_NET_RETRY=1 cargo info --quiet --registry crates-io "$probe") >/dev/null 2>&1; then
        cat "$log" >&2
        echo "$suite: the registry of Rust answers, but what is pinned cannot be built" >&2
        return $WRONG
    fi
    not_run "$suite" "$what" "the registry of Rust cannot be reached" "${again^} where cargo can reach its registry." <"$log"
    return $ABSENT
}

# go_program SUITE WHAT FILE PROJECT PROBE: the same for Go, into the program FILE. Where there is no Go, Debian's is tried.
go_program() {
    local suite=$1 what=$2 file=$3 project=$4 probe=$5 needed found log=$3.log
    local again="run tests/$suite/run again"
    # What is installed is what builds: no other Go is fetched.
    local -x GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0
    needed=$(sed -n 's/^go //p' "$project/go.mod")
    if ! command -v go >/dev/null 2>&1; then
        debian_packages golang-go >"$log" 2>&1
    fi
    if ! command -v go >/dev/null 2>&1; then
        tail -n 5 "$log" | not_run "$suite" "$what" "Go is not installed" "Install Go $needed or newer, and $again."
        return $ABSENT
    fi
    found=$(go env GOVERSION)
    if ! at_least "$needed" "${found#go}"; then
        echo "$found" | not_run "$suite" "$what" "Go is too old" "Install Go $needed or newer, and $again."
        return $ABSENT
    fi
    # Not optimised, which takes half the time.
    if (cd "$project" && go build -buildvcs=false '-gcflags=all=-N -l' '-ldflags=-s -w' -o "$file" .) >"$log" 2>&1; then
        return $THERE
    fi
    if (cd / && GOFLAGS=-mod=mod go list -m "$probe@latest") >/dev/null 2>&1; then
        cat "$log" >&2
        echo "$suite: the proxy of Go modules answers, but what is pinned cannot be built" >&2
        return $WRONG
    fi
    not_run "$suite" "$what" "the proxy of Go modules cannot be reached" "${again^} where go can reach its proxy." <"$log"
    return $ABSENT
}

# at_least NEEDED FOUND: whether a version is as new as that.
at_least() {
    [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

# debian_packages NAME…: installs them where that can be done; what is not to be had says so in its place.
debian_packages() {
    if ! command -v apt-get >/dev/null 2>&1 || [[ $(id -u) != 0 ]]; then
        echo "there is no apt-get, or no right to use it"
        return
    fi
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" || true
}
