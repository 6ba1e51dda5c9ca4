package connection

import (
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/spelling"
)

// choose words the cure for a value that is none of the candidates.
func choose(word string, candidates []string) string {
	if best := spelling.Nearest(word, candidates); best != "" {
		return "did you mean " + best + "?"
	}
	if len(candidates) == 0 {
		return "define one first"
	}
	return "use " + alternatives(candidates)
}

// alternatives writes a, b or c.
func alternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
