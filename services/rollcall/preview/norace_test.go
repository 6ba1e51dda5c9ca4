//go:build !race

package preview_test

// randomWorlds is how many worlds are tried.
const randomWorlds = 200
