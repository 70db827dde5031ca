// Package bases has the fixtures that several systems stand on: testbeds,
// trained networks, encoders. Importing it registers them; systems ask for them
// by name:
//
//	bed, err := systems.Use[*bases.Mixture](ctx, env, bases.DigitMixture)
package bases
