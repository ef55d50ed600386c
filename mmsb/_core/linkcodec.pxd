from cpython.tuple cimport PyTuple_GetItem

# The places of a Link's fields: looking one up by its name costs as much as all that is done with it.
cdef enum:
    TYPE = 0
    KIND = 1
    PARENTS = 2
    SEMIRING = 3
    DTYPE = 4
    ACCUMULATE = 5
    WEIGHTS = 6
    COPIES = 7
    ROWS = 8
    COLUMNS = 9
    FUNCTION = 10

cdef inline object field(object link, Py_ssize_t place):
    return <object>PyTuple_GetItem(link, place)
