"""How often quality and drift alarm where nothing changed, and where something did."""
