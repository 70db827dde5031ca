package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A fatbin is one or more containers of a header (magic, version, header size,
// size of what follows) and entries: kind (1 PTX, 2 cubin), version, header
// size, size of the payload, ..., at 28 the architecture as 10 major + minor, at 40
// flags. Source: the fatbins that nvcc 13.0 writes, one of which is in testdata.
const (
	fatbinMagic = 0xba55ed50
	kindPTX     = 1
	kindCubin   = 2
	flagOnly    = 1 << 20 // for this architecture alone: sm_90a and the like
)

type fatbinEntry struct {
	kind, arch int
	only       bool
}

func (e fatbinEntry) String() string {
	s := fmt.Sprintf("%d.%d", e.arch/10, e.arch%10)
	if e.only {
		s += "a"
	}
	if e.kind == kindPTX {
		s += " and newer (PTX)"
	}
	return s
}

// parseFatbin lists the entries of a fatbin.
func parseFatbin(s string) ([]fatbinEntry, error) {
	b := []byte(s)
	if len(b) == 0 {
		return nil, errors.New("it is empty")
	}
	var list []fatbinEntry
	for len(b) > 0 {
		if len(b) < 16 || binary.LittleEndian.Uint32(b) != fatbinMagic {
			return nil, fmt.Errorf("no fatbin header %d bytes before the end", len(b))
		}
		head := uint64(binary.LittleEndian.Uint16(b[6:]))
		body := binary.LittleEndian.Uint64(b[8:])
		if head < 16 || head > uint64(len(b)) || body > uint64(len(b))-head {
			return nil, fmt.Errorf("the header promises %d bytes and %d are there", body, len(b)-16)
		}
		rest := b[head : head+body]
		for len(rest) > 0 {
			if len(rest) < 48 {
				return nil, fmt.Errorf("an entry is cut off after %d bytes", len(rest))
			}
			head := uint64(binary.LittleEndian.Uint32(rest[4:]))
			body := binary.LittleEndian.Uint64(rest[8:])
			if head < 48 || head > uint64(len(rest)) || body > uint64(len(rest))-head {
				return nil, fmt.Errorf("an entry promises %d and %d bytes and %d are there", head, body, len(rest))
			}
			list = append(list, fatbinEntry{
				kind: int(binary.LittleEndian.Uint16(rest)),
				arch: int(binary.LittleEndian.Uint32(rest[28:])),
				only: binary.LittleEndian.Uint32(rest[40:])&flagOnly != 0,
			})
			rest = rest[head+body:]
		}
		b = b[head+body:]
	}
	return list, nil
}

// checkFatbin refuses what is not whole: the driver trusts the sizes within.
func checkFatbin(s string) error {
	list, err := parseFatbin(s)
	if err == nil && len(list) == 0 {
		return errors.New("it has no code")
	}
	return err
}

// architectures names what a fatbin has code for.
func architectures(s string) []string {
	list, err := parseFatbin(s)
	if err != nil {
		return []string{"nothing"}
	}
	slices.SortStableFunc(list, func(a, b fatbinEntry) int { return a.arch - b.arch })
	var names []string
	for _, e := range list {
		if e.kind == kindPTX || e.kind == kindCubin {
			names = append(names, e.String())
		}
	}
	return slices.Compact(names)
}
