package scim

import "context"

type unansweredKey struct{}

// WithUnanswered returns a context whose calls tell note of each HTTP request that was sent
// and not answered, also where it was sent again at once with success: the first one may
// still be in the network, and arrive after what is sent later.
func WithUnanswered(ctx context.Context, note func()) context.Context {
	return context.WithValue(ctx, unansweredKey{}, note)
}

func noteUnanswered(ctx context.Context) {
	if note, ok := ctx.Value(unansweredKey{}).(func()); ok {
		note()
	}
}
