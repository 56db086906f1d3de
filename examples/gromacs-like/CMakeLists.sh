#!/bin/sh
# Stands in for cmake: reads -DNAME=VALUE and writes a Makefile.
GMX_DOUBLE=OFF GMX_MPI=OFF CMAKE_INSTALL_PREFIX=/usr/local/gromacs
for option; do
    case $option in
        -D*=*) eval "$(echo "${option#-D}" | sed 's/^\([A-Z_]*\)=\(.*\)$/\1="\2"/')" ;;
    esac
done
[ $GMX_DOUBLE = ON ] && suffix=_d real=double || suffix= real=float
sed -e "s|@PREFIX@|$CMAKE_INSTALL_PREFIX|; s|@SUFFIX@|$suffix|; s|@REAL@|$real|" ../Makefile.in > Makefile
echo "-- precision: $real, installation to $CMAKE_INSTALL_PREFIX"
