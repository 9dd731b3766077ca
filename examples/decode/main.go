// Command decode generates text, or what would be text if the weights were not random, with a small
// transformer: token by token from caches of keys and values. Then it computes all tokens once more in one
// prefill, and compares the two bit for bit.
//
//	go run ./examples/decode
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/quern-go/quern/kernel"
)

func main() {
	var size size
	flag.IntVar(&size.layers, "layers", 4, "layers")
	flag.IntVar(&size.width, "width", 512, "channels of a token")
	flag.IntVar(&size.heads, "heads", 8, "query heads")
	flag.IntVar(&size.kvHeads, "kvheads", 2, "key/value heads")
	flag.IntVar(&size.words, "words", 8000, "words that the model knows")
	flag.IntVar(&size.positions, "tokens", 400, "tokens in all, the prompt included")
	prompt := flag.Int("prompt", 16, "tokens of the prompt")
	flag.Parse()
	log.SetFlags(0)

	m, err := newModel(size)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d layers of width %d, %d query heads on %d, %s\n", size.layers, size.width, size.heads, size.kvHeads, kernel.ISA())

	d, err := m.newDecoder()
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := d.generate(*prompt, size.positions)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("one by one:  %d tokens, %.0f a second, %.1f MB of keys and values\n", len(tokens), d.rate(), float64(d.bytes())/1e6)

	start := time.Now()
	all, err := m.prefill(tokens)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("one prefill: %d tokens, %.0f a second\n", len(tokens), float64(len(tokens))/time.Since(start).Seconds())

	same := sameRows(d.states, all, size.width)
	fmt.Printf("%d of %d tokens have the same bits\n", same, len(tokens))
	if same != len(tokens) {
		os.Exit(1)
	}
}

// sameRows counts the rows that two matrices of a width have in common.
func sameRows(x, y []float32, width int) (n int) {
	for i := 0; i < len(x); i += width {
		if equal(x[i:i+width], y[i:i+width]) {
			n++
		}
	}
	return n
}
