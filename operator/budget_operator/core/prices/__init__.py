"""What things cost: list prices in US dollars, and what a deployment costs with them. Pure.

`model` holds prices and looks them up, `table` reads the few that are shipped, `skus` makes them from
Google's Cloud Billing Catalog, `forecast` turns a spec into dollars. What really ran is not known here.
"""
