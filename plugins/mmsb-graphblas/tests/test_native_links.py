"""mmsb's native links against GraphBLAS on random graphs. Exactly: integers, min and max have no order to differ by."""

import graphblas
import numpy as np
import pytest

import mmsb
from mmsb import links

# mmsb's name, the semiring in GraphBLAS, the type, and the numbers to draw from.
CASES = [
    ("plus-times", "plus_times", "int64", 1000),
    ("plus-times", "plus_times", "int32", 50_000),
    ("plus-times", "plus_times", "uint8", 256),
    ("min-plus", "min_plus", "float64", 1000),
    ("min-plus", "min_plus", "float32", 1000),
    ("min-plus", "min_plus", "int64", 1000),
    ("max-plus", "max_plus", "float64", 1000),
    ("max-plus", "max_plus", "int32", 1000),
    ("max-times", "max_times", "int64", 1000),
    ("min-max", "min_max", "float64", 1000),
    ("min-max", "min_max", "uint8", 250),
    ("bit-union", "bor_band", "uint8", 256),
    ("xor-and", "bxor_band", "uint8", 256),
]
case = pytest.mark.parametrize(("name", "word", "dtype", "most"), CASES, ids=lambda value: str(value))


def numbers(rng, count, dtype, most):
    """Random lanes; floats have fractions, so that sums round."""
    if dtype.startswith("f"):
        return (rng.random(count) * most).astype(dtype)
    return rng.integers(0, most, count).astype(dtype)


def graph(rng, rows, columns, entries, dtype, most):
    """A random sparse matrix as (row_start, column, value), without two entries in one place; some rows are empty."""
    places = np.sort(rng.choice(rows * columns, entries, replace=False))
    row = (places // columns) * 2 // 3  # the last third of the rows stays empty
    order = np.unique(row * columns + places % columns)
    starts = np.searchsorted(order // columns, np.arange(rows + 1)).astype("u8")
    return starts, (order % columns).astype("u4"), numbers(rng, len(order), dtype, most)


def mxv(word, dtype, matrix, columns, x, zero):
    """What GraphBLAS makes of it; rows without an entry hold `zero`."""
    starts, column, value = matrix
    a = graphblas.Matrix.from_csr(starts, column, value, ncols=columns)
    ring = getattr(graphblas.semiring, word)[dtype]
    return a.mxv(graphblas.Vector.from_dense(x), ring).new().to_dense(fill_value=zero, dtype=dtype)


@case
def test_matrix_links(name, word, dtype, most):
    rng = np.random.default_rng(7)
    rows, columns = 300, 200
    matrix, x = graph(rng, rows, columns, 4000, dtype, most), numbers(rng, columns, dtype, most)
    zero = mmsb.Semirings().get(name, dtype).zero
    with mmsb.open() as state:
        parents = [state.create_page(data=data) for data in (x, *matrix)]
        y = state.create_page(rows * x.itemsize)
        state.depend(y, on=parents, link=links.matrix(name, dtype, rows, columns))
        for step in range(6):
            assert y.read() == mxv(word, dtype, matrix, columns, x, zero).tobytes()
            lane = int(rng.integers(columns))
            x[lane] = x.dtype.type(step)  # a part of x: only the rows that see it are computed
            parents[0].write(x[lane : lane + 1], at=lane * x.itemsize)
        assert y.read() == mxv(word, dtype, matrix, columns, x, zero).tobytes()


@case
def test_semiring_links(name, word, dtype, most):
    """⊕ over parents of weight ⊗ parent is a vector of weights times the matrix whose rows are the parents."""
    rng = np.random.default_rng(8)
    pages, weights = numbers(rng, 7 * 100, dtype, most).reshape(7, 100), numbers(rng, 7, dtype, most)
    ring = getattr(graphblas.semiring, word)[dtype]
    with mmsb.open() as state:
        parents = [state.create_page(data=row) for row in pages]
        child = state.create_page(pages[0].nbytes)
        state.depend(child, on=parents, link=links.semiring(name, dtype, weights))
        for step in range(4):
            product = graphblas.Vector.from_dense(weights).vxm(graphblas.Matrix.from_dense(pages), ring)
            assert child.read() == product.new().to_dense(dtype=dtype).tobytes()
            pages[step, 10:13] = step
            parents[step].write(pages[step, 10:13], at=10 * pages.itemsize)


@case
def test_reductions(name, word, dtype, most):
    rng = np.random.default_rng(9)
    data = numbers(rng, 1000, dtype, most)
    monoid = getattr(graphblas.monoid, word.split("_")[0])[dtype]
    with mmsb.open() as state:
        parents = [state.create_page(data=part) for part in np.split(data, 4)]
        child = state.create_page(data.itemsize)
        state.depend(child, on=parents, link=links.reduce(name, dtype))
        assert child.view(dtype)[0] == graphblas.Vector.from_dense(data).reduce(monoid).new().value


@pytest.mark.parametrize(
    ("name", "word", "dtype"),
    [("min-plus", "min_plus", "float64"), ("max-plus", "max_plus", "int64"), ("plus-times", "plus_times", "int64")],
)
def test_a_graph_of_pages_comes_to_the_fixed_point_that_vxm_comes_to(name, word, dtype):
    """400 pages of one lane and 2,000 links: a wave is the closure that GraphBLAS reaches step by step."""
    rng = np.random.default_rng(10)
    count, zero = 400, mmsb.Semirings().get(name, dtype).zero
    pairs = np.unique(np.sort(rng.integers(0, count, (2000, 2)), axis=1), axis=0)
    parents, children = pairs[pairs[:, 0] < pairs[:, 1]].T
    weights = rng.integers(1, 3, len(parents)).astype(dtype)
    sources = sorted(set(range(count)) - set(children.tolist()))
    ring = getattr(graphblas.semiring, word)[dtype]
    a = graphblas.Matrix.from_coo(parents, children, weights, nrows=count, ncols=count, dtype=dtype)
    with mmsb.open() as state:
        ids = np.array(state.create_pages(count, 8))
        start = np.full(count, zero, dtype)
        state.depend_many(ids[parents], ids[children], weights, semiring=name, dtype=dtype)
        for step in range(3):
            with state.batch() as batch:
                for source in sources:
                    start[source] = rng.integers(0, 5) if step else 1
                    batch.write(int(ids[source]), start[source : source + 1])
            x = graphblas.Vector.from_dense(start, missing_value=zero)
            for _ in range(count):
                before = x.dup()
                x = x.vxm(a, ring).new()
                x[sources] = start[sources]
                if x.isequal(before):
                    break
            wanted = x.to_dense(fill_value=zero, dtype=dtype)
            found = np.array([state.page(int(page)).view(dtype)[0] for page in ids])
            assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name", ["min-plus", "max-plus", "min-max"])
def test_the_semirings_of_graphblas_in_links_compute_what_native_ones_do(name):
    rng = np.random.default_rng(11)
    matrix, x = graph(rng, 60, 50, 400, "float64", 100), numbers(rng, 50, "float64", 100)
    seen = []
    for ring in (name, f"graphblas-{name}"):
        with mmsb.open() as state:
            parents = [state.create_page(data=data) for data in (x, *matrix)]
            y, one, half = state.create_page(480), state.create_page(8), state.create_page(400)
            merged = state.create_page(480, merge=ring, dtype="float64")
            state.depend(y, on=parents, link=links.matrix(ring, "float64", 60, 50))
            state.depend(one, on=y, link=links.reduce(ring, "float64"))
            state.depend(half, on=parents[0], link=links.semiring(ring, "float64", [0.5]))
            parents[0].write(np.array([3.0]), at=80)
            merged.write(y.read())
            merged.write(np.full(60, 40.0))
            seen.append([page.read() for page in (y, one, half, merged)])
    assert seen[0] == seen[1]
