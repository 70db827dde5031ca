package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A fatbin is one or more containers of a header (magic, version, header size,
// size of what follows) and entries: kind (1 PTX, 2 cubin), version, header
// size, size of the payload, ..., at 28 the architecture as 10 major + minor.
// Source: fatbinary_section.h and the fatbins that nvcc 13.0 writes.
const (
	fatbinMagic = 0xba55ed50
	kindPTX     = 1
	kindCubin   = 2
)

type fatbinEntry struct{ kind, arch int }

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
			if len(rest) < 32 {
				return nil, fmt.Errorf("an entry is cut off after %d bytes", len(rest))
			}
			head := uint64(binary.LittleEndian.Uint32(rest[4:]))
			body := binary.LittleEndian.Uint64(rest[8:])
			if head < 32 || head > uint64(len(rest)) || body > uint64(len(rest))-head {
				return nil, fmt.Errorf("an entry promises %d bytes and %d are there", body, len(rest)-32)
			}
			list = append(list, fatbinEntry{int(binary.LittleEndian.Uint16(rest)), int(binary.LittleEndian.Uint32(rest[28:]))})
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
	var names []string
	for _, e := range list {
		switch e.kind {
		case kindPTX:
			names = append(names, fmt.Sprintf("%d.%d and newer (PTX)", e.arch/10, e.arch%10))
		case kindCubin:
			names = append(names, fmt.Sprintf("%d.%d", e.arch/10, e.arch%10))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
