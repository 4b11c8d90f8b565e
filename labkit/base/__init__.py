"""What every room needs: errors, folders, processes, the machine, statistics, and how results are shown."""
