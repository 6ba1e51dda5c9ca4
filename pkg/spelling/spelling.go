// Package spelling finds the word that a misspelt one was probably meant to be. It
// knows nothing of what the words stand for.
package spelling

import "strings"

// Nearest returns the candidate that is closest to word without regard to case, or ""
// when none is close enough to be a misspelling of it: at most a third of the word's
// characters, and at least one, may differ.
func Nearest(word string, candidates []string) string {
	best, limit := "", min(max(1, len(word)/3)+1, len(word))
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < limit {
			best, limit = c, d
		}
	}
	return best
}

// distance is the number of characters to insert, delete, replace or swap with
// their neighbour to make b of a.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, row := make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		next := make([]int, len(y)+1)
		next[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(y)]
}
