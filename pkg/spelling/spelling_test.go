package spelling_test

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	candidates := []string{"displayName", "userName", "emails", "title", "users", "groups", "guard", "ldap", "id"}
	for word, want := range map[string]string{
		"dispalyName": "displayName", // two neighbours swapped
		"displaynam":  "displayName", // without regard to case
		"email":       "emails",
		"titles":      "title",
		"favorite":    "", // no misspelling of any
		"user":        "users",
		"gropus":      "groups",
		"GUARD":       "guard",
		"x":           "",
		"something":   "",
		"2":           "",
		"":            "",
	} {
		if got := spelling.Nearest(word, candidates); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
