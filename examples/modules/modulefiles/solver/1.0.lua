help([[A solver]])
prepend_path("PATH", "/opt/apps/solver/1.0/bin")
setenv("SOLVER_HOME", "/opt/apps/solver/1.0")
