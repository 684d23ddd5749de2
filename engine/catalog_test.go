package engine_test

import (
	"testing"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
)

// Every declaration that pipeline files can use: defaults within their bounds,
// examples that validate, names that do not clash.
func TestTheCatalogHolds(t *testing.T) {
	if err := config.CheckCatalog(engine.Catalog()); err != nil {
		t.Error(err)
	}
}
