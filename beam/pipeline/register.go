package pipeline

import (
	"context"
	"encoding"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/fidlab/fidlab/beam/partial"
	"github.com/fidlab/fidlab/beam/shard"
)

func init() {
	register.DoFn3x1[context.Context, shard.Shard, func(string, partial.Piece), error](&Extract{})
	register.DoFn3x1[context.Context, []byte, func(*string, *Gathered) bool, error](&Finish{})
	register.Combiner3[Gathered, partial.Piece, Gathered](&Gather{})
	register.Emitter2[string, partial.Piece]()
	register.Iter2[string, Gathered]()
	beam.RegisterType(reflect.TypeFor[shard.Shard]())
	beam.RegisterCoder(reflect.TypeFor[partial.Piece](), encodePiece, decodePiece)
	beam.RegisterCoder(reflect.TypeFor[Gathered](), encodeGathered, decodeGathered)
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

func encode(m encoding.BinaryMarshaler) ([]byte, error) { return m.MarshalBinary() }
