package main

import (
	"math"

	"github.com/quern-go/quern/kernel"
)

// vectors: cosines and norms of numbers of any size, scales, and chains that are cut along the depth.
func (l *oddList) vectors() {
	addVectors[float32](l, "float32")
	addVectors[kernel.BF16](l, "bfloat16")
	addVectors[kernel.F16](l, "float16")
	addScales[float32, float32](l, "float32")
	addScales[float32, int8](l, "float32-int8")
	addScales[int8, int8](l, "int8")
	addPairs[float32, float32](l, "float32")
	addPairs[int8, kernel.F16](l, "int8-float16")
}

// times is x·2^exponent, as far as float32 goes.
func times(x []float32, exponent int) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = float32(math.Ldexp(float64(x[i]), exponent))
	}
	return y
}

// farVectors are vectors of n numbers whose squares overflow, vanish or do neither, one behind the other.
func farVectors(seed uint64, n int) (all []float32) {
	x := normal(seed, n)
	for exponent := -150; exponent <= 126; exponent += 6 {
		all = append(all, times(x, exponent)...)
	}
	for i := range x { // nothing in common with every other one
		x[i] *= float32((i + int(seed)) % 2)
	}
	for exponent := -150; exponent <= 126; exponent += 30 {
		all = append(all, times(x, exponent)...)
	}
	all = append(all, make([]float32, n)...)
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), math.SmallestNonzeroFloat32,
		math.MaxFloat32} {
		x[n/2] = bad
		all = append(all, x...)
	}
	return all
}

// addVectors adds all cosines of two sets, one by one and as rows, and their norms.
func addVectors[T kernel.Float](l *oddList, name string) {
	const n = 77
	sets := func() (x, y []T) { return elements[T](farVectors(1, n)), elements[T](farVectors(2, n)) }
	l.add("cosine/"+name, func() [][]float32 {
		x, y := sets()
		var cosines []float32
		for i := 0; i < len(x); i += n {
			for j := 0; j < len(y); j += n {
				cosines = append(cosines, kernel.Cosine(x[i:i+n], y[j:j+n]))
			}
		}
		return [][]float32{cosines}
	})
	l.addSame("cosine/"+name+"/rows", "cosine/"+name, func() [][]float32 {
		x, y := sets()
		cosines := make([]float32, len(x)/n*(len(y)/n))
		for i := range len(x) / n {
			kernel.CosineRows(cosines[i*len(y)/n:][:len(y)/n], x[i*n:][:n], kernel.RowsOf(y, n),
				kernel.ScanOptions{Workers: 2})
		}
		return [][]float32{cosines}
	})
	l.add("cosine/"+name+"/long", func() (all [][]float32) {
		x, y := normal(1, 70000), normal(2, 70000)
		for _, exponent := range []int{-90, -70, -60, -50, 0, 55, 60, 100} {
			a, b := elements[T](times(x, exponent)), elements[T](y)
			all = append(all, []float32{kernel.Cosine(a, b), kernel.Cosine(a, a), kernel.Norm(a)})
		}
		return all
	})
	l.add("norm/"+name, func() [][]float32 {
		x, _ := sets()
		norms := []float32{kernel.Norm(x)}
		for i := 0; i < len(x); i += n {
			norms = append(norms, kernel.Norm(x[i:i+n]))
		}
		return [][]float32{norms}
	})
}

// addScales adds what scales of any kind make of products, distances and cosines, and of their order.
func addScales[Q, T kernel.Scalar](l *oddList, name string) {
	l.add("scales/"+name, func() [][]float32 {
		nan, inf := float32(math.NaN()), float32(math.Inf(1))
		scale := []float32{1, -1, nan, 0, inf, -inf, 1e-45, -3e38, float32(math.Copysign(0, -1)), -0.5}
		const dim = 19
		q := elements[Q](normal(1, dim))
		rows := kernel.Rows[T]{Data: elements[T](normal(2, dim*len(scale))), Dim: dim, Scale: scale}
		result := func() []float32 { return make([]float32, len(scale)) }
		dots, distances, cosines := result(), result(), result()
		kernel.DotRows(dots, q, rows, kernel.ScanOptions{})
		kernel.SquaredL2Rows(distances, q, rows, kernel.ScanOptions{})
		kernel.CosineRows(cosines, q, rows, kernel.ScanOptions{})
		best := kernel.TopK(make([]kernel.Match, len(scale)), kernel.MetricCosine, q, rows, kernel.ScanOptions{})
		return append(matches(best), dots, distances, cosines)
	})
}

// addPairs adds products of a few long queries, by themselves and among many.
func addPairs[Q, T kernel.Scalar](l *oddList, name string) {
	const dim, few, many, count = 6001, 3, 35, 50
	products := func(n int, pick []uint32) []float32 {
		rows := kernel.RowsOf(elements[T](normal(2, dim*count)), dim).Pick(pick)
		p := make([]float32, n*len(pick))
		kernel.PairwiseDot(p, kernel.RowsOf(elements[Q](normal(1, dim*many))[:n*dim], dim), rows,
			kernel.ScanOptions{Workers: 2})
		return p[:few*len(pick)]
	}
	l.add("pairwise/"+name, func() [][]float32 { return [][]float32{products(few, permutation(count))} })
	l.addSame("pairwise/"+name+"/many", "pairwise/"+name, func() [][]float32 {
		return [][]float32{products(many,
			permutation(count))}
	})
}
