package doctor

// Column is a column of a table as its rows are stored.
type Column struct {
	Name    string
	Type    string // INTEGER, TEXT, REAL or BLOB
	NotNull bool
	Rowid   bool // it is the rowid, which its record does not repeat
	Default any  // of rows that were stored before the table had the column
}

// Table is a b-tree whose rows are wanted.
type Table struct {
	// Name is that of the table, or of the index, in the schema. Several may have the same,
	// for files in which its rows have other shapes.
	Name    string
	Columns []Column
	// Index says that it is an index, or a table WITHOUT ROWID: columns in the order of
	// its keys.
	Index bool
	// Reached says that only pages are wanted that the schema leads to: rows of other
	// tables have the same shape.
	Reached bool
	// Least is how many columns a row must have stored at least; 0: those that have no default.
	Least int
}

// row turns the record of a cell into a row of the table, if it has its shape.
func (t *Table) row(c *cell, values []any) ([]any, bool) {
	if len(values) > len(t.Columns) || len(values) < t.Least {
		return nil, false
	}
	row := make([]any, len(t.Columns))
	for i, col := range t.Columns {
		switch {
		case i >= len(values):
			row[i] = col.Default
		case col.Rowid:
			if values[i] != nil {
				return nil, false
			}
			row[i] = c.rowid
			continue
		default:
			row[i] = values[i]
		}
		if !col.allows(&row[i]) {
			return nil, false
		}
	}
	return row, true
}

// allows reports whether the column can hold a value, which becomes what SQLite makes of it.
func (col *Column) allows(v *any) bool {
	switch got := (*v).(type) {
	case nil:
		return !col.NotNull
	case int64:
		if col.Type == "REAL" {
			*v = float64(got) // a whole number is stored as one
			return true
		}
		return col.Type == "INTEGER"
	case float64:
		return col.Type == "REAL"
	case string:
		return col.Type == "TEXT"
	case []byte:
		return col.Type == "BLOB"
	}
	return false
}
