package scim

import (
	"context"
	"strings"
)

// Listing is every resource of a kind as a target held it at one time, to find many
// resources by one walk over the pages.
type Listing struct {
	resources []*Resource
	byValue   map[string]map[string][]*Resource // by path and folded value
}

// ReadAll lists a kind. ErrIncomplete means that absence from it would prove
// nothing. each, where there is one, may take from a resource what is not needed, and
// end the listing by an error.
func (c *Client) ReadAll(ctx context.Context, kind Kind, opts ListOptions, each func(*Resource) error) (*Listing, error) {
	l := &Listing{byValue: map[string]map[string][]*Resource{}}
	_, err := c.List(ctx, kind, opts, func(r *Resource) error {
		if each != nil {
			if err := each(r); err != nil {
				return err
			}
		}
		l.resources = append(l.resources, r)
		return nil
	})
	return l, err
}

// Find is Client.Find over the listing.
func (l *Listing) Find(attribute, value string) ([]*Resource, error) {
	p, err := lookUpPath(attribute, value)
	if err != nil {
		return nil, err
	}
	if l.byValue[p.String()] == nil {
		l.byValue[p.String()] = l.index(p)
	}
	var found []*Resource
	for _, r := range l.byValue[p.String()][strings.ToLower(value)] {
		if r.matches(p, []string{value}) {
			found = append(found, r)
		}
	}
	return found, nil
}

func (l *Listing) index(p Path) map[string][]*Resource {
	index := map[string][]*Resource{}
	for _, r := range l.resources {
		for value := range r.values(p) {
			value = strings.ToLower(value)
			index[value] = append(index[value], r)
		}
	}
	return index
}
