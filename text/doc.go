// Package text reads words.
package text
