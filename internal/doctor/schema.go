package doctor

// catalogue is the table of the schema, whose tree begins in page 1.
var catalogue = Table{Columns: []Column{
	{Name: "type", Type: "TEXT", NotNull: true},
	{Name: "name", Type: "TEXT", NotNull: true},
	{Name: "tbl_name", Type: "TEXT", NotNull: true},
	{Name: "rootpage", Type: "INTEGER"},
	{Name: "sql", Type: "TEXT"},
}}

// schema returns where the trees of tables and indexes begin. Where the tree of the schema is
// damaged its pages are looked for among all, so that some of what is found may be of before.
func (a *Atlas) schema() (roots map[string]uint32, err error) {
	roots = map[string]uint32{}
	gaps := a.gaps
	if err := a.follow(1, nil); err != nil {
		return nil, err
	}
	for i, owner := range a.owner {
		if owner == ofOthers {
			if _, err := a.addRoots(roots, uint32(i+1)); err != nil {
				return nil, err
			}
		}
	}
	if a.gaps == gaps {
		a.Found.Schema = true
		return roots, nil
	}
	for i, owner := range a.owner {
		if owner != unreached {
			continue
		}
		found, err := a.addRoots(roots, uint32(i+1))
		if err != nil {
			return nil, err
		}
		if found {
			a.claim(uint32(i+1), ofOthers)
		}
	}
	return roots, nil
}

// addRoots adds those that a page of the schema names, unless another page did, and reports
// whether it is such a page.
func (a *Atlas) addRoots(roots map[string]uint32, n uint32) (found bool, err error) {
	p, ok, err := a.file.tree(n)
	if err != nil || !ok || p.kind != tableLeaf {
		return false, err
	}
	for _, c := range p.rowCells(a.file.usable) {
		content, ok, err := a.file.content(&c)
		if err != nil {
			return false, err
		}
		values, whole := record(content)
		if !ok || !whole || len(values) != len(catalogue.Columns) {
			continue
		}
		row, ok := catalogue.row(&c, values)
		if !ok {
			continue
		}
		switch row[0] {
		case "table", "index", "view", "trigger":
		default:
			continue
		}
		found = true
		root, _ := row[3].(int64)
		name := row[1].(string)
		if _, known := roots[name]; !known && root > 1 && root <= int64(len(a.owner)) {
			roots[name] = uint32(root)
		}
	}
	return found, nil
}
