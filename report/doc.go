// Package report turns results into something to read: one self-contained HTML
// page, aligned text tables, and JSON.
//
// A Page is a plain value made of Sections, which are made of Blocks: Figures
// (large numbers with their intervals), Table, Chart, Graph, Image, Gallery,
// Commands, Note.
// Nothing here computes or formats by guesswork: numbers that need a rule are
// written by Number and Range, which both keep as many digits as the interval
// allows.
//
//	page := report.Page{
//		Title: "FID of my model",
//		Lead:  "2,000 images against the MNIST training set.",
//		Sections: []report.Section{{Title: "Result", Blocks: []report.Block{
//			report.Figures{{Name: "FID", Value: report.Number(3.456, 3.2, 3.7), Detail: "95 %: 3.2 to 3.7"}},
//		}}},
//	}
//	err := page.WriteHTML(f)
//
// Lines is a figure for a paper, as PNG or SVG; a page shows its PNG as an Image.
//
// The page is one file: style, charts (SVG) and pictures (data URIs) are inside,
// there is no script and nothing is fetched. It follows the reader's light or
// dark setting, fits a phone and prints. Every string is text: names of files
// and models cannot become markup. Equal values give equal bytes; a date appears
// only if the caller puts one in.
package report
