int zfp_precision(int bits);
