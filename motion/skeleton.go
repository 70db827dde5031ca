package motion

// Skeleton is a tree of joints. Joint 0 is the root, and a parent comes before
// its children in the chains. The tables are shared: callers do not change them.
type Skeleton struct {
	Name    string
	Joints  []string // their names
	Parents []int    // −1 for the root
	Chains  [][]int  // each starts at the root or at a joint of an earlier chain
	// Rest is the direction of the bone that ends at a joint, when nothing is
	// rotated; of length 1, 0 for the root.
	Rest          [][3]float64
	RightHip      int
	LeftHip       int
	RightShoulder int
	LeftShoulder  int
	LeftFoot      [2]int  // ankle and foot: the joints of the first two contacts
	RightFoot     [2]int  // of the last two
	Leg           [2]int  // the joints whose bones make the length of a leg
	ContactLimit  float64 // of the squared step from one frame to the next
	FPS           float64 // frames a second of the published files
}

// Chains and directions are facts of the two layouts (paramUtil.py of HumanML3D);
// names and the order of the joints are SMPL's and the MMM reference body's.
var (
	smpl = &Skeleton{
		Name: "HumanML3D",
		Joints: []string{
			"pelvis", "left hip", "right hip", "spine 1", "left knee", "right knee", "spine 2", "left ankle", "right ankle", "spine 3", "left foot",
			"right foot", "neck", "left collar", "right collar", "head", "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
		},
		Parents: []int{-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19},
		Chains:  [][]int{{0, 2, 5, 8, 11}, {0, 1, 4, 7, 10}, {0, 3, 6, 9, 12, 15}, {9, 14, 17, 19, 21}, {9, 13, 16, 18, 20}},
		Rest: [][3]float64{
			{0, 0, 0},
			{1, 0, 0},
			{-1, 0, 0},
			{0, 1, 0},
			{0, -1, 0},
			{0, -1, 0},
			{0, 1, 0},
			{0, -1, 0},
			{0, -1, 0},
			{0, 1, 0},
			{0, 0, 1},
			{0, 0, 1},
			{0, 1, 0},
			{1, 0, 0},
			{-1, 0, 0},
			{0, 0, 1},
			{0, -1, 0},
			{0, -1, 0},
			{0, -1, 0},
			{0, -1, 0},
			{0, -1, 0},
			{0, -1, 0},
		},
		RightHip: 2, LeftHip: 1, RightShoulder: 17, LeftShoulder: 16,
		LeftFoot: [2]int{7, 10}, RightFoot: [2]int{8, 11}, Leg: [2]int{5, 8},
		ContactLimit: 0.002, FPS: 20,
	}
	mmm = &Skeleton{
		Name: "KIT",
		Joints: []string{
			"root", "lower spine", "upper spine", "lower neck", "head", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
			"right hip", "right knee", "right ankle", "right heel", "right foot", "left hip", "left knee", "left ankle", "left heel", "left foot",
		},
		Parents: []int{-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19},
		Chains:  [][]int{{0, 11, 12, 13, 14, 15}, {0, 16, 17, 18, 19, 20}, {0, 1, 2, 3, 4}, {3, 5, 6, 7}, {3, 8, 9, 10}},
		Rest: [][3]float64{
			{0, 0, 0},
			{0, 1, 0},
			{0, 1, 0},
			{0, 1, 0},
			{0, 1, 0},
			{1, 0, 0},
			{0, -1, 0},
			{0, -1, 0},
			{-1, 0, 0},
			{0, -1, 0},
			{0, -1, 0},
			{1, 0, 0},
			{0, -1, 0},
			{0, -1, 0},
			{0, 0, 1},
			{0, 0, 1},
			{-1, 0, 0},
			{0, -1, 0},
			{0, -1, 0},
			{0, 0, 1},
			{0, 0, 1},
		},
		RightHip: 11, LeftHip: 16, RightShoulder: 5, LeftShoulder: 8,
		LeftFoot: [2]int{19, 20}, RightFoot: [2]int{14, 15}, Leg: [2]int{17, 18},
		ContactLimit: 0.05, FPS: 12.5,
	}
)
