# What the host binds is looked for first.
if [ -e /opt/mpi/host/libmpi.so.40 ]; then
    LD_LIBRARY_PATH=/opt/mpi/host${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi
