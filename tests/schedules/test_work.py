from tvm.script import tirx as T

from schedules.work import Work, count_work


def test_a_matmul_counts_two_operations_a_step_and_each_tensor_once():
    @T.prim_func(private=True, s_tir=True)
    def matmul(a: T.Buffer((4, 8), "float32"), b: T.Buffer((8, 16), "float32"), c: T.Buffer((4, 16), "float32")):
        for i, j, k in T.grid(4, 16, 8):
            with T.sblock("c"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                with T.init():
                    c[vi, vj] = T.float32(0)
                c[vi, vj] = c[vi, vj] + a[vi, vk] * b[vk, vj]

    assert count_work(matmul) == Work(flops=2 * 4 * 16 * 8, bytes=4 * (4 * 8 + 8 * 16 + 4 * 16))


def test_a_table_counts_only_the_rows_that_are_read():
    @T.prim_func(private=True, s_tir=True)
    def lookup(table: T.Buffer((1000, 8), "float16"), rows: T.Buffer((3,), "int64"), out: T.Buffer((3, 8), "float16")):
        for i, j in T.grid(3, 8):
            with T.sblock("out"):
                vi, vj = T.axis.remap("SS", [i, j])
                out[vi, vj] = table[rows[vi], vj]

    assert count_work(lookup) == Work(flops=0, bytes=2 * 3 * 8 + 8 * 3 + 2 * 3 * 8)
