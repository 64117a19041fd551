#!/bin/sh
# Makes the secrets of docker-compose.yml in a folder (default: ./secrets) where they are missing; prints none of them.
#
# Compose mounts the files as they are, and the containers run as users of their own: so everybody may read the files,
# and only their owner may enter the folder.
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 0700 "$folder"
for name in database-password admin-token attempt-key ray-token; do
    file=$folder/$name
    if [ ! -e "$file" ]; then
        (umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' > "$file.new" && echo >> "$file.new")
        chmod 0444 "$file.new"
        mv "$file.new" "$file"
        echo "made $file"
    fi
done
