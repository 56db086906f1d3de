# Stands in for Lmod: `module load NAME[/VERSION]` of files that set and prepend.
module() {
    local name file
    [ "$1" = load ] || return 2
    for name in "${@:2}"; do
        file=$(ls -d "$MODULEPATH/$name.lua" "$MODULEPATH/$name"/*.lua 2> /dev/null | tail -1)
        [ -n "$file" ] || { echo "module: not found: $name" >&2; return 1; }
        eval "$(sed -n -e 's/^prepend_path("\(.*\)", "\(.*\)")$/export \1="\2:$\1"/p' \
                       -e 's/^setenv("\(.*\)", "\(.*\)")$/export \1="\2"/p' "$file")"
        LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}${file#"$MODULEPATH/"}
    done
    export LOADEDMODULES
}
