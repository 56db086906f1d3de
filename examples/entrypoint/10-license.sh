export LM_LICENSE_FILE=${LM_LICENSE_FILE:-27000@license.example.org}
