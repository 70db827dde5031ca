// Command mixturebed writes the testbed that package systems/bases embeds:
//
//	go run -tags native ./scripts/mixturebed -o systems/bases/digit-mixture.npz
package main

import (
	"context"
	"flag"
	"log"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/tensor"
)

func main() {
	out := flag.String("o", "digit-mixture.npz", "write to `FILE`")
	flag.Parse()
	set, err := mnist.Load(mnist.Train)
	if err != nil {
		log.Fatal(err)
	}
	entries, err := bases.BuildDigitMixture(context.Background(), set)
	if err != nil {
		log.Fatal(err)
	}
	if err := tensor.WriteNPZ(*out, entries, true, tensor.Overwrite); err != nil {
		log.Fatal(err)
	}
}
