// Package plan compiles a convolutional network that is described as data into
// a chain of primitives with everything prepared: weights reordered once,
// blocked layouts kept between layers, branches written straight into their
// concatenation, scratch memory owned by the plan.
//
// A Net is the description. It is written once per network (Inception-v3 in
// fid/extract); the oneDNN plan, the pure-Go plan and, later, the CUDA plan
// read the same one.
package plan

// Kind is what a Node computes.
type Kind uint8

// The closed list of node kinds.
const (
	Conv      Kind = iota + 1 // out = relu?(W*x + B); batch norm is folded into W and B by whoever makes the Net
	MaxPool                   // padding never wins
	AvgPool                   // divides by the number of valid cells: padding is not counted
	GlobalAvg                 // mean over H and W: [C,H,W] -> [C,1,1]
	Linear                    // out = relu?(W*flatten(x) + B): a fully connected layer over C*H*W in that order
	Concat                    // along channels, in the order of In
)

// Node is one operation. Tensors are named: a node's output has the node's
// name, the network's input is called "input".
type Node struct {
	Name string
	Kind Kind
	In   []string // one name, several for Concat

	Out        int       // output channels (Conv, Linear)
	KH, KW     int       // kernel (Conv, pools)
	StrideH    int       // 0 means 1
	StrideW    int       // 0 means 1
	PadH, PadW int       // zeros on both sides
	Ceil       bool      // of pools: a window that the far edge cuts counts too, where it begins inside (torch's ceil_mode)
	ReLU       bool      // fused after Conv or Linear
	Weight     []float32 // [Out,In,KH,KW] or [Out,C*H*W]
	Bias       []float32 // [Out] or nil
}

// Net is a network for one image of C×H×W float32, applied to batches.
type Net struct {
	Name    string
	C, H, W int
	Nodes   []Node   // in an order in which every input is defined before its use
	Outputs []string // the nodes whose values Run returns, each flattened to C*H*W per image
}

// Precision is how a plan multiplies.
type Precision uint8

// The precisions. SplitBF16 cuts each float32 operand into two bf16 terms and
// sums three products: float32-grade results where bf16 units exist.
const (
	F32 Precision = iota
	BF16
	SplitBF16
)

func (p Precision) String() string { return [...]string{"fp32", "bf16", "bf16x3"}[p] }
