help([[A solver, faster]])
prepend_path("PATH", "/opt/apps/solver/2.0/bin")
setenv("SOLVER_HOME", "/opt/apps/solver/2.0")
