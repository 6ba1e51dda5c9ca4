package connection

import (
	"errors"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
)

// Eval is the attribute's value for an entry: its default where the directory has
// none, nil where there is no default either.
func (a CompiledAttribute) Eval(entry mapping.Object) (any, error) {
	value, err := a.Value.Eval(entry)
	switch {
	case err != nil && !errors.Is(err, mapping.ErrAbsent):
		return nil, err
	case err == nil && !empty(value):
		return value, nil
	case a.Default != "":
		return a.Default, nil
	}
	return nil, nil //nolint:nilnil // absent is no error
}

func empty(value any) bool {
	list, isList := value.([]any)
	return value == nil || value == "" || isList && len(list) == 0
}
