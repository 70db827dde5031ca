// Package imageio reads pictures: folders, lists, archives, arrays and streams
// of them, in the formats people have, into 8-bit RGB by documented rules, and
// resizes them exactly as the peers do.
package imageio
