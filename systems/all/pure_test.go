//go:build !native

package all

import "github.com/fidlab/fidlab/systems/bases"

// networks are the fixtures that parts are run on: convolutions in pure Go take minutes.
func networks() []string { return []string{bases.MNISTDiT} }
