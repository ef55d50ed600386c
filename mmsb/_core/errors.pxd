cdef object raise_status(int status, str context=*, dict facts=*)
cpdef int no_pointers(object data) except -1
