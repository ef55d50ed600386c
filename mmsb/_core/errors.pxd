cdef object raise_status(int status, str context=*, dict facts=*)
