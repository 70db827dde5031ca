package pipeline

import (
	"bytes"
	"context"
	"encoding"
	"errors"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/fidlab/fidlab/beam/partial"
	"github.com/fidlab/fidlab/beam/shard"
)

func init() {
	register.DoFn3x1[context.Context, shard.Shard, func(string, partial.Piece), error](&Extract{})
	register.DoFn3x1[context.Context, string, func(*Named) bool, error](&Finish{})
	register.Function2x2(nameSet)
	register.Combiner3[Gathered, partial.Piece, Gathered](&Gather{})
	register.Emitter2[string, partial.Piece]()
	register.Iter1[Named]()
	beam.RegisterType(reflect.TypeFor[shard.Shard]())
	beam.RegisterCoder(reflect.TypeFor[partial.Piece](), encodePiece, decodePiece)
	beam.RegisterCoder(reflect.TypeFor[Gathered](), encodeGathered, decodeGathered)
	beam.RegisterCoder(reflect.TypeFor[Named](), encodeNamed, decodeNamed)
}

func encodePiece(p partial.Piece) ([]byte, error) { return encode(p) }

func decodePiece(b []byte) (partial.Piece, error) {
	var p partial.Piece
	err := p.UnmarshalBinary(b)
	return p, err
}

func encodeGathered(g Gathered) ([]byte, error) { return encode(g.P) }

func decodeGathered(b []byte) (Gathered, error) {
	g := Gathered{new(partial.Partial)}
	err := g.P.UnmarshalBinary(b)
	return g, err
}

func encodeNamed(n Named) ([]byte, error) {
	b, err := encode(n.P)
	return append([]byte(n.Set+"\n"), b...), err
}

func decodeNamed(b []byte) (Named, error) {
	set, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return Named{}, errors.New("pipeline: statistics without the name of their set")
	}
	n := Named{string(set), new(partial.Partial)}
	err := n.P.UnmarshalBinary(rest)
	return n, err
}

func encode(m encoding.BinaryMarshaler) ([]byte, error) { return m.MarshalBinary() }
