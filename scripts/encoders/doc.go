// Command encoders trains the encoders of the generated sets that fid/extract has built in, and
// measures what they see:
//
//	go run -tags native ./scripts/encoders -o fid/extract/encoders shapes-enc
//	go run -tags native ./scripts/encoders -tables shapes-enc      # floor, damage, small n
//	go run -tags native ./scripts/encoders -rank shapes-enc        # one order for three seeds
//
// An encoder learns, from the split enc alone, to answer questions about a picture whose answers
// the generator knows: its heads. Its features are the layer before them. All encoders are trained
// by the one recipe of recipe.go; task.go has what each is asked.
//
// The weights depend on the recipe, the seed and the arithmetic library, not on the number of
// threads: package train has nothing random with a state, and sums of a step do not depend on who
// made their parts. Recipe, seed, library and the answers on the split test are written into the file.
package main
