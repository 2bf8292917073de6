# What every session starts from; tests/src/transcript.rs runs it before each file.
umask 022
export ICECORE_REPOSITORY=repo ICECORE_KEY_FILE=key

# A new repository, which the key file `key` opens.
repository() {
    ICECORE_KEY_FILE= icecore init --quiet --new-key-file "${2:-key}" --repo "${1:-repo}" --label ann@laptop
}

# A directory as an archive whose owners, modes and times are the same on every machine: pack DIRECTORY DAY FILE.
pack() {
    tar --create --sort=name --format=posix --pax-option=delete=atime,delete=ctime --owner=ann:1000 --group=ann:1000 \
        --mode='u=rwX,go=rX' --mtime="$2 08:30:00Z" --directory "$1" --file "$3" .
}

# A snapshot of the directory ann as /home/ann: store DAY [FLAG…].
store() {
    day=$1
    shift
    pack ann "$day" "$day.tar"
    icecore backup --quiet --from-tar "$day.tar" --as-path /home/ann --time "$day 12:00" --host laptop "$@"
    rm "$day.tar"
}

# Two snapshots of /home/ann: on the second day a file is changed, one is new, one is gone.
two_days() {
    repository
    mkdir -p ann/photos ann/work
    echo 'To do: water the plants.' > ann/todo.txt
    head -c 3000 /dev/zero | tr '\0' 'p' > ann/photos/plants.jpg
    echo 'Dear Bob,' > ann/work/letter.txt
    ln -s work/letter.txt ann/latest
    store 2024-05-17
    echo 'To do: water the plants again.' > ann/todo.txt
    rm ann/work/letter.txt
    echo 'Dear Carol,' > ann/work/carol.txt
    store 2024-05-18 --tag letters
}

# The first digits of a snapshot's id, for what a person would copy from the list.
id_of() {
    icecore cat snapshot "$1" --json | sed 's/.*"short_id":"\([0-9a-f]*\)".*/\1/'
}
