package main

import (
	"path/filepath"

	"github.com/fidlab/fidlab/fid/extract"
)

// towerPictures is how many pictures a turn of the tower rows has.
const towerPictures = 16

// towerRows are vision transformers against torch: ours with the resize of 299 to 224 pixels, torch's without.
func towerRows(job func(string, int) func(*peers) (runner, error)) (out []row) {
	for _, name := range []string{"dinov2-vitb14", "clip-vit-b32"} {
		out = append(out, row{
			name: name + " fp32", peer: "torch", tolerance: 1e-4, rounds: 4,
			ours: func(p *peers) (runner, error) {
				e, err := extract.Open(name, extract.Options{Weights: filepath.Join(p.inputs, name+".pth")})
				if err != nil {
					return nil, err
				}
				return features(e, p.inputs, towerPictures)
			},
			theirs: job("tower:"+name, threads()),
		})
	}
	return out
}
