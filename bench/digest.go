package main

import (
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
)

// Committed digests, lines of "case digest": digests.txt is the output of -digest, cases.txt has the
// cases of the report. `go test ./bench -update` rewrites both.
//
//go:embed testdata
var testdata embed.FS

// committed reads a file of digests.
func committed(file string) map[string]string {
	text, err := testdata.ReadFile("testdata/" + file)
	check(err)
	digests := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, digest, _ := strings.Cut(strings.TrimSpace(line), " ")
		digests[name] = digest
	}
	return digests
}

// digest is 16 digits of the SHA-256 of the little-endian bits of all numbers in order. NaN is always
// 7fc00000: payloads differ between machines.
func digest(parts ...[]float32) string {
	hash := sha256.New()
	var buffer []byte
	for _, part := range parts {
		for len(part) > 0 {
			n := min(len(part), 4096)
			buffer = buffer[:0]
			for _, x := range part[:n] {
				bits := math.Float32bits(x)
				if x != x {
					bits = 0x7fc00000
				}
				buffer = binary.LittleEndian.AppendUint32(buffer, bits)
			}
			hash.Write(buffer)
			part = part[n:]
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

// source is splitmix64, which gives the same integers everywhere.
type source uint64

func (s *source) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// normal makes n numbers that are nearly N(0, 1): a sum of twelve 16-bit integers, less its mean, over
// 2¹⁶. Every one is exact.
func normal(seed uint64, n int) []float32 {
	random := source(seed << 32)
	x := make([]float32, n)
	for i := range x {
		sum := -6 * 0xffff
		for range 3 {
			z := random.next()
			sum += int(z&0xffff) + int(z>>16&0xffff) + int(z>>32&0xffff) + int(z>>48)
		}
		x[i] = float32(sum) / (1 << 16)
	}
	return x
}
